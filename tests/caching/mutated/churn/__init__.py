"""A model of customers who leave."""

from .data import Customer
from .settings import SETTINGS

__version__ = "1.4.2"
__all__ = ["SETTINGS", "Customer", "__version__"]
