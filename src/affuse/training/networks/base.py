"""What all trainable networks share: what they say about themselves, and what they answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

from affuse.errors import ConfigError
from affuse.training.networks.kinds import AXES, Reads

__all__ = ["Network", "Output", "check_at_least", "check_share"]


class Output(NamedTuple):
    """What a network answers.

    Attributes
    ----------
    logits : Tensor of shape (n, k)
        One column a label.
    embedding : Tensor of shape (n, d)
        What the logits are read off.

    Examples
    --------
    >>> import torch
    >>> Output(torch.zeros(2, 3), torch.zeros(2, 8)).logits.shape
    torch.Size([2, 3])
    """

    logits: Tensor
    embedding: Tensor


class Network(nn.Module):
    """Base of networks that make an expert; ``forward(**inputs)`` gives an `Output`.

    Front ends and normalisation belong to the network, so that they are exported with it. Submodules are registered in
    the order from input to answer, and the last is called ``head``: freezing and layer-wise learning rates go by that.
    What a network can do beyond answering is declared here, and everything is off unless a class says otherwise.

    Attributes
    ----------
    modality : str
        What it judges: "voice", "face", "text" or "joint".
    reads : str
        Its inputs: "waveform" (n, samples) float32 at 16 kHz; "images" (n, c, s, s) and "clips" (n, c, t, s, s) float32
        with values 0…255; "frames" (n, t, d) with "lengths" (n,) int64; "landmarks" (n, 68, 2) in pixels; "tokens":
        "ids" and "mask" (n, t) int64; "blocks": several of these, of which any may be missing.
    paper : str
        Where it comes from.
    n_labels : int
        Labels k.
    embedding_width : int
        Numbers d of the embedding.
    picture : tuple of int, or None
        Size and channels of what a reader of images or clips takes.
    frames : int, or None
        Pictures of a clip.
    vocab_size : int, or None
        Token ids of a reader of tokens.
    folder : Path, or None
        Pretrained network that it starts from; its tokenizer lies there.
    has_spectrum : bool
        Whether `features` and `classify` are there, so that masks can be put on the spectrum between them.
    n_action_units : int
        Intensities that it tells beside the labels; then `auxiliary_loss` is there.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> class Mean(Network):
    ...     modality, reads, n_labels, embedding_width = "voice", "waveform", 2, 1
    ...
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.head = nn.Linear(1, 2)
    ...
    ...     def forward(self, waveform):
    ...         loudness = (waveform**2).mean(dim=1, keepdim=True)
    ...         return Output(self.head(loudness), loudness)
    >>> Mean()(torch.zeros(3, 16000)).logits.shape
    torch.Size([3, 2])
    >>> Mean().count_parameters()
    4
    """

    modality: str
    reads: Reads
    paper: str = ""
    n_labels: int
    embedding_width: int
    head: nn.Module
    picture: tuple[int, int] | None = None
    frames: int | None = None
    vocab_size: int | None = None
    folder: Path | None = None
    has_spectrum: bool = False
    n_action_units: int = 0

    def example(self) -> dict[str, Tensor]:
        """Small valid inputs of two rows, in the order of the parameters of ``forward``.

        Returns
        -------
        dict of str to Tensor
        """
        raise NotImplementedError

    @property
    def axes(self) -> dict[str, dict[int, str]]:
        """Axes of every input that vary from call to call, by name."""
        return AXES[self.reads]

    def merged(self) -> Network:
        """The network as it is exported: itself, where nothing has to be folded in.

        Returns
        -------
        Network
        """
        return self

    def features(self, **inputs: Tensor) -> Tensor:
        """First half of ``forward`` where ``has_spectrum``: the normalised spectrum.

        Parameters
        ----------
        **inputs : Tensor
            Those of ``forward``.

        Returns
        -------
        Tensor of shape (n, frames, bands)
        """
        raise NotImplementedError

    def classify(self, features: Tensor) -> Output:
        """Second half of ``forward`` where ``has_spectrum``: the answer to a spectrum.

        Parameters
        ----------
        features : Tensor of shape (n, frames, bands)
            What `features` gives.

        Returns
        -------
        Output
        """
        raise NotImplementedError

    def auxiliary_loss(self, output: Any, action_units: Tensor) -> Tensor:
        """Loss of the action units, to be added to that of the labels, where ``n_action_units`` is above 0.

        Parameters
        ----------
        output : named tuple
            What ``forward`` answered.
        action_units : Tensor of shape (n, u)
            True intensities; NaN where unknown.

        Returns
        -------
        Tensor of shape ()
        """
        raise NotImplementedError

    def token_states(self, ids: Tensor, mask: Tensor) -> Tensor | None:
        """States of single tokens, from which masked ones can be told; None where a network has no such states.

        Parameters
        ----------
        ids, mask : Tensor of shape (n, t)
            Token ids, and 1 where one counts.

        Returns
        -------
        Tensor of shape (n, t, d), or None
        """
        return None

    def count_parameters(self, trained_only: bool = False) -> int:
        """Number of weights, or of those that training changes.

        Parameters
        ----------
        trained_only : bool
            Count only what training changes.

        Returns
        -------
        int
        """
        return sum(p.numel() for p in self.parameters() if p.requires_grad or not trained_only)


def check_share(**shares: float) -> None:
    """Raise ConfigError for a share outside [0, 1)."""
    for name, value in shares.items():
        if not 0 <= value < 1:
            raise ConfigError(f"{name} must be at least 0 and below 1; got {value}")


def check_at_least(least: int, **numbers: int) -> None:
    """Raise ConfigError for a number below ``least``."""
    for name, value in numbers.items():
        if value < least:
            raise ConfigError(f"{name} must be at least {least}; got {value}")
