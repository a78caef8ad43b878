"""When names lead where: never to a certificate without them."""
