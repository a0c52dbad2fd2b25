"""Measurements of the appliance itself, on any machine."""
