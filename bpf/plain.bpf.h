/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The short way, for packets as most are: TCP or UDP, without IP options or extension headers, in one piece,
 * and with their headers in the linear part of the buffer. Fields are read where they lie, once they are asked
 * about. Whatever is different in any way goes the long way, by parse.h and classify.bpf.h, to the same rules.
 */
#ifndef PLAIN_BPF_H
#define PLAIN_BPF_H

#include "classify.bpf.h"
#include "mirroring.h"
#include "mirroring_maps.bpf.h"
#include "parse.h"

struct plain_ipv4 {
	struct iphdr ip;
	struct port_pair ports;
};

struct plain_ipv6 {
	struct ipv6hdr ip;
	struct port_pair ports;
};

/* What is behind the Ethernet header, of which so much may be looked at as is_linear says. */
static __always_inline const void *network_header(struct __sk_buff *skb)
{
	return (void *)(long)skb->data + ETH_HLEN;
}

/* Whether the packet is in the linear part up to `end`. */
static __always_inline bool is_linear(struct __sk_buff *skb, const void *end)
{
	return end <= (void *)(long)skb->data_end;
}

static __always_inline bool is_tcp_or_udp(__u8 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP;
}

static __always_inline bool is_plain_ipv4(const struct plain_ipv4 *plain, __u8 protocol)
{
	enum { VERSION_4_IHL_5 = 0x45 };

	return *(const __u8 *)plain == VERSION_4_IHL_5 &&
	       !(plain->ip.frag_off & bpf_htons(IP_MORE_FRAGMENTS | IP_OFFSET_MASK)) &&
	       is_tcp_or_udp(protocol) && bpf_ntohs(plain->ip.tot_len) >= sizeof(*plain);
}

static __always_inline bool is_plain_ipv6(const struct plain_ipv6 *plain)
{
	return plain->ip.version == 6 && is_tcp_or_udp(plain->ip.nexthdr) &&
	       bpf_ntohs(plain->ip.payload_len) >= sizeof(plain->ports);
}

/* What parse makes of it; and the verifier knows no more of that than of what parse makes. */
static __always_inline void parse_plain(const struct mirroring_config *config,
					const struct port_pair *ports, __u8 protocol, bool is_ipv6,
					__u32 header_len, struct packet *packet)
{
	clear(config, packet);
	packet->src_port = bpf_ntohs(ports->src);
	packet->dst_port = bpf_ntohs(ports->dst);
	packet->l3_offset = forget(config, ETH_HLEN, 31);
	packet->l4_offset = forget(config, ETH_HLEN + header_len, 0x7fff);
	packet->ports = forget(config, PORTS_KNOWN, 3);
	packet->fragment = forget(config, FRAGMENT_NONE, 3);
	packet->protocol = forget(config, protocol, 0xff);
	packet->is_ipv6 = is_ipv6 + config->zero;
}

static __always_inline void parse_plain_ipv4(const struct mirroring_config *config,
					     const struct plain_ipv4 *plain, struct packet *packet)
{
	parse_plain(config, &plain->ports, plain->ip.protocol, false, sizeof(plain->ip), packet);
	packet->src[0] = plain->ip.saddr;
	packet->dst[0] = plain->ip.daddr;
	packet->length = forget(config, bpf_ntohs(plain->ip.tot_len), 0xffffffff);
	packet->traffic_class = plain->ip.tos;
}

static __always_inline void parse_plain_ipv6(const struct mirroring_config *config,
					     const struct plain_ipv6 *plain, struct packet *packet)
{
	parse_plain(config, &plain->ports, plain->ip.nexthdr, true, sizeof(plain->ip), packet);
	__builtin_memcpy(packet->src, &plain->ip.saddr, sizeof(packet->src));
	__builtin_memcpy(packet->dst, &plain->ip.daddr, sizeof(packet->dst));
	packet->length =
		forget(config, bpf_ntohs(plain->ip.payload_len) + sizeof(plain->ip), 0xffffffff);
	packet->traffic_class = plain->ip.priority << 4 | plain->ip.flow_lbl[0] >> 4;
}

#endif /* PLAIN_BPF_H */
