"""A whole collection of recordings: analysed into tables, merged, queried, and turned into playlists.

A library is a folder that `run_batch` writes (command ``emoseg batch``). `run` analyses what is new or changed, in the
processes of `workers`; `manifest` records the state of every recording as `records`; `tables` and `parts` hold the
results as Parquet files; `merge` joins the libraries of several shards. `contents` reads a library, `questions` answers
questions about it with the database of `query`, and `playlist` orders songs into playlists.
"""

from emoseg.library.manifest import Manifest
from emoseg.library.merge import MergeReport, merge
from emoseg.library.records import Shard
from emoseg.library.run import BatchReport, run_batch

__all__ = ["BatchReport", "Manifest", "MergeReport", "Shard", "merge", "run_batch"]
