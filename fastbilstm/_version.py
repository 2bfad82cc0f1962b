"""The version, in this one place: the package, the build and the converted files read it from here."""

__version__ = "0.1.0"
