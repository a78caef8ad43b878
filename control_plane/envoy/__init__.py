"""Domain values in, serialised Envoy messages out: the builders of everything that Envoy is sent.

The rule of this package: each builder is a pure function, and the bytes that it returns depend on
its arguments alone. So the same plan has the same bytes, and hence the same version, in every
process. This package is the only user of ``envoy_data_plane``, which takes 0.4 s to import.
Therefore import only the modules that you need, and none of them on the way to a command, or to the
library, that builds no Envoy message.
"""
