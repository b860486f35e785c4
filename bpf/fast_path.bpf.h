/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The fast path is for plain packets, which most packets are: TCP or UDP without VLAN tags in the frame, IP
 * options, extension headers or fragmentation, and with all headers in the linear part of the buffer. Each
 * field is read from the packet when its table is looked up. All other packets take the slow path
 * (parse.h and classify.bpf.h), which finds the same rules.
 */
#ifndef FAST_PATH_BPF_H
#define FAST_PATH_BPF_H

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

/* The bytes behind the Ethernet header. Check with is_linear() before reading them. */
static __always_inline const void *network_header(struct __sk_buff *skb)
{
	return (void *)(long)skb->data + ETH_HLEN;
}

/* Whether the linear part of the buffer reaches up to `end`. */
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
	       !(plain->ip.frag_off & bpf_htons(IP_MF | IP_OFFSET)) && is_tcp_or_udp(protocol) &&
	       bpf_ntohs(plain->ip.tot_len) >= sizeof(*plain);
}

static __always_inline bool is_plain_ipv6(const struct plain_ipv6 *plain)
{
	return plain->ip.version == 6 && is_tcp_or_udp(plain->ip.nexthdr) &&
	       bpf_ntohs(plain->ip.payload_len) >= sizeof(plain->ports);
}

/* Fills in `packet` as parse() does, with value ranges that are just as opaque to the verifier. */
static __always_inline void fill_packet(const struct mirroring_config *config,
					const struct port_pair *ports, __u8 protocol, bool is_ipv6,
					__u32 header_len, struct packet *packet)
{
	clear_packet(config, packet);
	packet->src_port = bpf_ntohs(ports->src);
	packet->dst_port = bpf_ntohs(ports->dst);
	packet->l3_offset = verifier_opaque(config, ETH_HLEN, 31);
	packet->l4_offset = verifier_opaque(config, ETH_HLEN + header_len, 0x7fff);
	packet->ports = verifier_opaque(config, PORTS_KNOWN, 3);
	packet->fragment = verifier_opaque(config, FRAGMENT_NONE, 3);
	packet->protocol = verifier_opaque(config, protocol, 0xff);
	packet->is_ipv6 = is_ipv6 + config->zero;
}

static __always_inline void fill_packet_ipv4(const struct mirroring_config *config,
					     const struct plain_ipv4 *plain, struct packet *packet)
{
	fill_packet(config, &plain->ports, plain->ip.protocol, false, sizeof(plain->ip), packet);
	packet->src[0] = plain->ip.saddr;
	packet->dst[0] = plain->ip.daddr;
	packet->length = verifier_opaque(config, bpf_ntohs(plain->ip.tot_len), 0xffffffff);
	packet->traffic_class = plain->ip.tos;
}

static __always_inline void fill_packet_ipv6(const struct mirroring_config *config,
					     const struct plain_ipv6 *plain, struct packet *packet)
{
	fill_packet(config, &plain->ports, plain->ip.nexthdr, true, sizeof(plain->ip), packet);
	__builtin_memcpy(packet->src, &plain->ip.saddr, sizeof(packet->src));
	__builtin_memcpy(packet->dst, &plain->ip.daddr, sizeof(packet->dst));
	packet->length = verifier_opaque(
		config, bpf_ntohs(plain->ip.payload_len) + sizeof(plain->ip), 0xffffffff);
	packet->traffic_class = plain->ip.priority << 4 | plain->ip.flow_lbl[0] >> 4;
}

#endif /* FAST_PATH_BPF_H */
