"""Packages: folders that hold a trained network, or a whole system, and everything that is needed to use it."""

from affuse.packages.columns import FeatureTable
from affuse.packages.description import PackageDescription
from affuse.packages.folder import is_package, is_system
from affuse.packages.loading import load_expert, load_package
from affuse.packages.package import Package, read_package, set_label_map, write_package
from affuse.packages.system import System, read_system

__all__ = [
    "FeatureTable",
    "Package",
    "PackageDescription",
    "System",
    "is_package",
    "is_system",
    "load_expert",
    "load_package",
    "read_package",
    "read_system",
    "set_label_map",
    "write_package",
]
