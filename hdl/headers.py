"""What of Ethernet, IPv4, TCP and UDP headers both cards go by (docs/ethernet.md). The only definition."""

ETHERTYPE_OFFSET = 12
ETHERTYPE_BYTES = 2
VLAN_TAGS = (0x8100, 0x88A8)
"""EtherTypes of 802.1Q and of 802.1ad (QinQ)."""
VLAN_TAG_BYTES = 4
MOST_VLAN_TAGS = 2
IPV4 = 0x0800
IPV4_HEADER_BYTES = 20
MORE_FRAGMENTS, FRAGMENT_OFFSET = 0x2000, 0x1FFF
"""In the IPv4 header's 16 bits at byte 6 (RFC 791); the offset counts 8 bytes."""
UDP_HEADER_BYTES = 8
TCP_HEADER_BYTES = 20
"""Headers without options."""
