"""Model-based search: surrogates, and what decides by them which architecture is evaluated next."""
