"""citywatch: the gateway that keeps watch over a city's streetlights, covers, rain pipes, pump stations and bridges."""

__version__ = "0.1.0"
