"""Labels that people corrected in ELAN or Label Studio, read back as a manifest."""

from affuse.data.corrections.importing import import_corrections
from affuse.data.corrections.tiers import split_tier_name, tier_name

__all__ = ["import_corrections", "split_tier_name", "tier_name"]
