"""Layers that several networks are built of."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["ResidualBlock"]


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions with a shortcut (He et al. 2016, arXiv:1512.03385).

    ``stride``, one number or one an axis, is by how much the map shrinks.
    """

    def __init__(self, n_in: int, n_out: int, stride: int | tuple[int, int] = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False),
            nn.BatchNorm2d(n_out),
            nn.ReLU(inplace=True),
            nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False),
            nn.BatchNorm2d(n_out),
        )
        same_size = stride in (1, (1, 1))
        self.shortcut: nn.Module = (
            nn.Identity()
            if same_size and n_in == n_out
            else nn.Sequential(
                nn.Identity() if same_size else nn.AvgPool2d(stride, ceil_mode=True),  # odd sizes, as convolutions do
                nn.Conv2d(n_in, n_out, 1, bias=False),
                nn.BatchNorm2d(n_out),
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.shortcut(x))
