"""Encoders: from a stream's tokens or pixels to one vector."""
