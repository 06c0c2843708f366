"""Attack emoseg as strangers and accidents would: ``make attack``.

    python benchmarks/attack/attack.py [--only KIND] [--audio 10000] [--models 500] [--undo 500] [--tagging 500]
                                       [--kills 12] [--disks 6] [--seed 0] [--out FILE.json]

Prints how many trials of each kind were tried, survived and failed. ``--out`` keeps the counts, and a line per finding,
beside those of other kinds that the file has.
What counts as a failure is in `harness`. Full disks need the right to mount a small one, and are left out without it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from ends import attack_by_full_disks, attack_by_kills
from harness import Tally, Yard, yard
from inputs import attack_models, attack_options, attack_tables, attack_tagging, attack_undo_files
from recordings import attack_audio, attack_names


def main() -> None:
    """Run the attacks, print the table, and exit with 1 where something failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    counts = {"audio": 10_000, "models": 500, "undo": 500, "tagging": 500, "kills": 12, "disks": 6}
    for name, count in counts.items():
        parser.add_argument(f"--{name}", type=int, default=count)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", action="append", choices=[*counts, "names", "tables", "options"])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    seed = options.seed
    attacks: dict[str, Callable[[Yard], Tally]] = {
        "names": attack_names,
        "options": attack_options,
        "tables": lambda place: attack_tables(place, seed),
        "models": lambda place: attack_models(place, seed, options.models),
        "undo": lambda place: attack_undo_files(place, seed, options.undo),
        "tagging": lambda place: attack_tagging(place, seed, options.tagging),
        "kills": lambda place: attack_by_kills(place, seed, options.kills),
        "disks": lambda place: attack_by_full_disks(place, seed, options.disks),
        "audio": lambda place: attack_audio(place, seed, options.audio),
    }
    tallies = []
    for name in options.only or attacks:
        started = time.monotonic()
        with yard() as place:
            tally = attacks[name](place)
        tallies.append(tally)
        counted = tally.to_json()
        took = f"{time.monotonic() - started:.0f} s"
        sys.stdout.write(f"{tally.kind}: {', '.join(f'{n} {key}' for key, n in counted.items())} ({took})\n")
        sys.stdout.flush()
    if options.out:
        kinds = json.loads(options.out.read_text(encoding="utf-8")) if options.out.exists() else {}
        kinds |= {t.kind: {"seed": seed, **t.to_json(), "findings": t.findings} for t in tallies}
        options.out.write_text(json.dumps(kinds, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    sys.exit(any(tally.failed for tally in tallies))


if __name__ == "__main__":
    main()
