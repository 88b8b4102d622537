"""Much from few labels: pre-training without any, pseudo-labels, which clips to label next, and careful transfer.

`pretrain` makes weights that ``affuse train`` starts from, `pseudo` a manifest that it learns from, `active` the table
behind ``affuse train --suggest``, `transfer` the learning rates by layer. What each of them
gains is measured by ``python -m research.low_resource`` and written down in docs/augmentation.md.
"""

__all__: list[str] = []
