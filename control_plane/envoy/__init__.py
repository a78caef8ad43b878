"""Domain values in, serialised Envoy messages out: the builders of everything that Envoy is sent.

The rule of this package: each builder is a pure function that returns bytes which depend on its
arguments alone: the same plan has the same bytes, hence the same version, in every process. It is
the only user of ``envoy_data_plane``, which takes 0.4 s to import: import the modules that you
need, and not on the way to a command, or to the library, that builds no Envoy message.
"""
