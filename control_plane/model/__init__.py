"""The pure model of apps, instances, internal routes and network policies."""
