"""Batches: a whole library of recordings, analysed once each into two tables; resumable, sharded, mergeable."""

from emoseg.batch.manifest import Failure, Manifest
from emoseg.batch.merge import MergeReport, merge
from emoseg.batch.run import BatchReport, run_batch
from emoseg.batch.shards import Shard

__all__ = ["BatchReport", "Failure", "Manifest", "MergeReport", "Shard", "merge", "run_batch"]
