"""The models: one final class a file, all behind the contract of :mod:`draper.models.base`."""
