"""The reports of this instance to the control plane."""
