"""What the control plane is told of this instance."""
