"""Graphs of actions as pictures, for people. Pure: text in, text out; knows no builder and no terminal."""
