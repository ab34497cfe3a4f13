"""The notebooks as a newcomer runs them, whole, at the smallest scale."""
