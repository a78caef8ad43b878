"""An Envoy control plane that serves every app instance over HTTPS and rotates its certificate."""
