complete -c mirroring -l iface -d 'Interface to mirror from' -r
complete -c mirroring -l direction -d 'Packets that come in or go out: ingress or egress' -r
complete -c mirroring -l src-address -d 'Source addresses, e.g. 10.0.0.0/8,not 10.9.0.0/16 [default: any]' -r
complete -c mirroring -l dst-address -d 'Destination addresses [default: any]' -r
complete -c mirroring -l src-port -d 'Source ports and ranges, e.g. 80,8000-8100 [default: 0, any]' -r
complete -c mirroring -l dst-port -d 'Destination ports and ranges [default: 0, any]' -r
complete -c mirroring -l protocol -d 'Protocols by name or number, e.g. tcp,icmp,47 [default: any]' -r
complete -c mirroring -l tcp-flags -d 'TCP flags, e.g. syn,fin+ack,not rst [default: any]' -r
complete -c mirroring -l vlan -d 'VLAN IDs and ranges of the outermost tag, or none [default: any]' -r
complete -c mirroring -l icmp-type -d 'Types of ICMP messages, e.g. echo-request,3 [default: any]' -r
complete -c mirroring -l dscp -d 'Differentiated services code points, e.g. ef,cs1,18 [default: any]' -r
complete -c mirroring -l length -d 'Lengths of IP packets and ranges of them, in bytes [default: any]' -r
complete -c mirroring -l sample-one-in -d 'Mirror one in so many of these packets [default: 1]' -r
complete -c mirroring -l sample-by -d 'Sample single packets or whole flows: packet or flow [default: packet]' -r
complete -c mirroring -l snaplen -d 'Bytes that a copy keeps, or headers for just these [default: all]' -r
complete -c mirroring -l rules-file -d 'File of rules, in JSON; the first rule that matches decides' -r -F
complete -c mirroring -l tunnel-remote-address -d 'IPv4 or IPv6 address of the collector; needed unless the tunnel interface exists' -r
complete -c mirroring -l redirect-to -d 'Interface by which the copies leave for the collector [default: as the kernel routes]' -r
complete -c mirroring -l gtw-address -d 'Next hop towards the collector' -r
complete -c mirroring -l tunnel-interface-name -d 'Tunnel interface: used as it is if it exists, built otherwise [default: gue1]' -r
complete -c mirroring -l tunnel-type -d 'Kind of tunnel: gue [default: gue]' -r
complete -c mirroring -l tunnel-local-port -d 'UDP source port of the tunnel, or auto: from the flow [default: 6080]' -r
complete -c mirroring -l tunnel-remote-port -d 'UDP destination port of the tunnel [default: 6080]' -r
complete -c mirroring -l tunnel-dscp -d 'DSCP of the tunnel\'s packets, 0 to 63 or a name such as cs1 or ef [default: 0]' -r
complete -c mirroring -l tunnel-ttl -d 'Hops that the tunnel\'s packets may take, 1 to 255 [default: 64]' -r
complete -c mirroring -l oversize -d 'Packets too long for the built-in tunnel: fragment, truncate or drop [default: fragment]' -r
complete -c mirroring -l max-rate -d 'Most that leaves in copies, a second, e.g. 500mbit [default: no cap]' -r
complete -c mirroring -l cmd -d 'start, update (the filter), stop, status, show, explain [default: start]' -r
complete -c mirroring -l format -d 'How --cmd=show shows it: table, json or prometheus [default: table]' -r
complete -c mirroring -l watch -d 'Show the table each second anew, until Ctrl-C [default: false]' -r
complete -c mirroring -l packet -d 'Packet to explain, e.g. \'10.0.0.1:1 > 192.0.2.5:80 tcp syn\', or its hex' -r
complete -c mirroring -l dry-run -d 'Only print the rules, and what would change by them [default: false]' -r
complete -c mirroring -l map-name -d 'Pin of the jump table (PROG_ARRAY) of the previous program in a chain' -r -F
complete -c mirroring -l version -d 'Version of the package, a part of the names of pins [default: latest]' -r
complete -c mirroring -l resident -d 'Stay with the tunnel when l3afd loaded the program [default: false]' -r
complete -c mirroring -l bpffs -d 'Root of the BPF file system [default: /sys/fs/bpf]' -r -f -a "(__fish_complete_directories)"
complete -c mirroring -l log-dir -d 'Directory of the log file, mirroring.log [default: /var/log/l3af]' -r -f -a "(__fish_complete_directories)"
complete -c mirroring -s q -l quiet -d 'Log to the file only, not to the terminal [default: false]' -r
complete -c mirroring -s V -d 'Print the version of this program'
complete -c mirroring -s h -l help -d 'Print help (see more with \'--help\')'
