"""The learnt segment model: the mean over members, networks and frontends, and its export to ONNX."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from emoseg.config import LearningConfig
from emoseg.learning.cross_fit import SegmentFit
from emoseg.learning.networks import ConvNet, Perceptron, SegmentNetwork
from emoseg.learning.trainer import State, load_network


class SegmentEnsemble(nn.Module):
    """Maps features of one or more frontends to probabilities.

    Within a frontend the probabilities of all networks are averaged; frontends are averaged with equal weight.
    """

    def __init__(self, networks: Mapping[str, list[SegmentNetwork]]) -> None:
        super().__init__()
        self.frontends = tuple(networks)
        self.networks = nn.ModuleDict({name: nn.ModuleList(group) for name, group in networks.items()})

    def forward(self, *features: Tensor) -> Tensor:
        """Return probabilities (B, K) of features, one tensor per frontend in the order of `frontends`."""
        means = []
        for name, x in zip(self.frontends, features, strict=True):
            group = self.networks[name]
            assert isinstance(group, nn.ModuleList)
            means.append(torch.stack([torch.softmax(network(x), dim=1) for network in group]).mean(dim=0))
        return torch.stack(means).mean(dim=0)


def build_ensemble(fits: Mapping[str, SegmentFit], *, classes: int, config: LearningConfig) -> SegmentEnsemble:
    """Return the segment model of the fits of all frontends, ready for inference."""
    networks = {
        name: [network for state in fit.states for network in networks_of(state, classes, config)]
        for name, fit in fits.items()
    }
    return SegmentEnsemble(networks).eval()


def networks_of(state: State, classes: int, config: LearningConfig) -> list[SegmentNetwork]:
    """Return the networks of a member's state."""
    networks: list[SegmentNetwork] = []
    while f"network{len(networks)}/standardise.mean" in state:
        mean = torch.from_numpy(state[f"network{len(networks)}/standardise.mean"])
        kind = Perceptron if mean.ndim == 1 else ConvNet
        network = kind(mean, torch.ones_like(mean), classes, config.network)
        load_network(network, state, len(networks))
        networks.append(network)
    return networks


def export_onnx(ensemble: SegmentEnsemble, shapes: Mapping[str, tuple[int, ...]], file: Path) -> None:
    """Write the segment model as ONNX: one input (B, ...) per frontend, one output ``probabilities`` (B, K), float32.

    Parameters
    ----------
    ensemble : SegmentEnsemble
    shapes : mapping of str to tuple of int
        Shape of one segment's features for each frontend.
    file : Path
        Replaced if it exists.
    """
    example = tuple(torch.zeros((2, *shapes[name])) for name in ensemble.frontends)
    batch = torch.export.Dim("batch", min=1)
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    with warnings.catch_warnings():
        # The exporter warns of its own deprecations, and of optional packages that are missing.
        warnings.simplefilter("ignore")
        logger.setLevel(logging.ERROR)
        program = torch.onnx.export(
            ensemble,
            example,
            dynamo=True,
            input_names=list(ensemble.frontends),
            output_names=["probabilities"],
            dynamic_shapes=(tuple({0: batch} for _ in example),),
            verbose=False,
        )
    logger.setLevel(level)
    if program is None:
        raise RuntimeError("torch.onnx.export returned nothing")
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()  # stack traces, which contain paths of this machine
    program.save(str(file))
