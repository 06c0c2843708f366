from types import SimpleNamespace

from emoseg.training import _guards


def test_guards_are_counted_over_members_networks_and_passes() -> None:
    member = [
        {"loss": 1.0},  # warm-up
        {"fallback": ["agreement", None], "rescued_classes": [[], [2]]},
        {"fallback": ["agreement", "overlap"], "rescued_classes": [[], []]},
    ]
    learned = SimpleNamespace(fit=SimpleNamespace(history={"descriptors": [member, member[:2]]}))
    assert _guards(learned) == {"agreement": 3, "overlap": 1, "rescued class": 2}
    assert _guards(SimpleNamespace(fit=SimpleNamespace(history={"descriptors": [[{"loss": 1.0}]]}))) == {}
