"""Manifest, lock and profiles -> graph of actions. Pure: reads no file, knows no store and no doit."""
