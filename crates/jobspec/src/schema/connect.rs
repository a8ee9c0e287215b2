//! The service mesh: sidecars, gateways, upstreams.
//!
//! Rows are `name in the file, name on the wire, shape`; see [`super`].

use super::Hidden;
use super::Shape::{Bool, ByLabel, Duration, Int, Many, One, Opaque, PortList, Text, TextList, TextMap};
use super::Unset::{Null, Zero};
use super::task::{IDENTITY, LOG_CONFIG, RESOURCES, VOLUME_MOUNT};
use super::{Body, INT, Kind, UINT16, UINT32, field, label};

pub(crate) static CONNECT: Body = Body {
    kind: Kind::Plain,
    fields: &[
        field("native", "Native", Bool(Zero)),
        field("gateway", "Gateway", One(&GATEWAY)),
        field("sidecar_service", "SidecarService", One(&SIDECAR_SERVICE)),
        field("sidecar_task", "SidecarTask", One(&SIDECAR_TASK)),
    ],
    hidden: &[],
};

pub(crate) static GATEWAY: Body = Body {
    kind: Kind::Plain,
    fields: &[
        field("proxy", "Proxy", One(&GATEWAY_PROXY)),
        field("ingress", "Ingress", One(&INGRESS)),
        field("terminating", "Terminating", One(&TERMINATING)),
        field("mesh", "Mesh", One(&MESH)),
    ],
    hidden: &[],
};

pub(crate) static SIDECAR_SERVICE: Body = Body {
    kind: Kind::Plain,
    fields: &[
        field("tags", "Tags", TextList),
        field("port", "Port", Text(Zero)),
        field("proxy", "Proxy", One(&PROXY)),
        field("disable_default_tcp_check", "DisableDefaultTCPCheck", Bool(Zero)),
        field("meta", "Meta", TextMap),
    ],
    hidden: &[],
};

pub(crate) static SIDECAR_TASK: Body = Body {
    kind: Kind::Plain,
    fields: &[
        field("name", "Name", Text(Zero)),
        field("driver", "Driver", Text(Zero)),
        field("user", "User", Text(Zero)),
        field("config", "Config", Opaque),
        field("env", "Env", TextMap),
        field("resources", "Resources", One(&RESOURCES)),
        field("meta", "Meta", TextMap),
        field("kill_timeout", "KillTimeout", Duration(Null)),
        field("logs", "LogConfig", One(&LOG_CONFIG)),
        field("shutdown_delay", "ShutdownDelay", Duration(Null)),
        field("kill_signal", "KillSignal", Text(Zero)),
        field("volume_mount", "VolumeMounts", Many(&VOLUME_MOUNT)),
        field("identity", "Identities", Many(&IDENTITY)),
    ],
    hidden: &[],
};

pub(crate) static GATEWAY_PROXY: Body = Body {
    kind: Kind::Plain,
    fields: &[
        field("connect_timeout", "ConnectTimeout", Duration(Null)),
        field("envoy_gateway_bind_tagged_addresses", "EnvoyGatewayBindTaggedAddresses", Bool(Zero)),
        field("envoy_gateway_bind_addresses", "EnvoyGatewayBindAddresses", ByLabel(&BIND_ADDRESS)),
        field("envoy_gateway_no_default_bind", "EnvoyGatewayNoDefaultBind", Bool(Zero)),
        field("envoy_dns_discovery_type", "EnvoyDNSDiscoveryType", Text(Zero)),
        field("config", "Config", Opaque),
    ],
    hidden: &[],
};

pub(crate) static INGRESS: Body = Body {
    kind: Kind::Plain,
    fields: &[field("tls", "TLS", One(&GATEWAY_TLS)), field("listener", "Listeners", Many(&INGRESS_LISTENER))],
    hidden: &[],
};

pub(crate) static TERMINATING: Body =
    Body { kind: Kind::Plain, fields: &[field("service", "Services", Many(&LINKED_SERVICE))], hidden: &[] };

pub(crate) static MESH: Body = Body { kind: Kind::Plain, fields: &[], hidden: &[] };

pub(crate) static PROXY: Body = Body {
    kind: Kind::Plain,
    fields: &[
        field("local_service_address", "LocalServiceAddress", Text(Zero)),
        field("local_service_port", "LocalServicePort", Int(INT, Zero)),
        field("expose", "Expose", One(&EXPOSE)),
        field("upstreams", "Upstreams", Many(&UPSTREAM)),
        field("transparent_proxy", "TransparentProxy", One(&TRANSPARENT_PROXY)),
        field("config", "Config", Opaque),
    ],
    hidden: &[("ExposeConfig", Hidden::Null)],
};

pub(crate) static BIND_ADDRESS: Body = Body {
    kind: Kind::Plain,
    fields: &[label("Name"), field("address", "Address", Text(Zero)), field("port", "Port", Int(INT, Zero))],
    hidden: &[],
};

pub(crate) static GATEWAY_TLS: Body = Body {
    kind: Kind::Plain,
    fields: &[
        field("enabled", "Enabled", Bool(Zero)),
        field("tls_min_version", "TLSMinVersion", Text(Zero)),
        field("tls_max_version", "TLSMaxVersion", Text(Zero)),
        field("cipher_suites", "CipherSuites", TextList),
        field("sds", "SDS", One(&GATEWAY_SDS)),
    ],
    hidden: &[],
};

pub(crate) static INGRESS_LISTENER: Body = Body {
    kind: Kind::Plain,
    fields: &[
        field("port", "Port", Int(INT, Zero)),
        field("protocol", "Protocol", Text(Zero)),
        field("service", "Services", Many(&INGRESS_SERVICE)),
    ],
    hidden: &[],
};

pub(crate) static LINKED_SERVICE: Body = Body {
    kind: Kind::Plain,
    fields: &[
        field("name", "Name", Text(Zero)),
        field("ca_file", "CAFile", Text(Zero)),
        field("cert_file", "CertFile", Text(Zero)),
        field("key_file", "KeyFile", Text(Zero)),
        field("sni", "SNI", Text(Zero)),
    ],
    hidden: &[],
};

pub(crate) static EXPOSE: Body = Body {
    kind: Kind::Plain,
    fields: &[field("path", "Paths", Many(&EXPOSE_PATH))],
    hidden: &[("Path", Hidden::Null)],
};

pub(crate) static UPSTREAM: Body = Body {
    kind: Kind::Plain,
    fields: &[
        field("destination_name", "DestinationName", Text(Zero)),
        field("destination_namespace", "DestinationNamespace", Text(Zero)),
        field("destination_peer", "DestinationPeer", Text(Zero)),
        field("destination_partition", "DestinationPartition", Text(Zero)),
        field("destination_type", "DestinationType", Text(Zero)),
        field("local_bind_port", "LocalBindPort", Int(INT, Zero)),
        field("datacenter", "Datacenter", Text(Zero)),
        field("local_bind_address", "LocalBindAddress", Text(Zero)),
        field("local_bind_socket_path", "LocalBindSocketPath", Text(Zero)),
        field("local_bind_socket_mode", "LocalBindSocketMode", Text(Zero)),
        field("mesh_gateway", "MeshGateway", One(&MESH_GATEWAY)),
        field("config", "Config", Opaque),
    ],
    hidden: &[],
};

pub(crate) static TRANSPARENT_PROXY: Body = Body {
    kind: Kind::Plain,
    fields: &[
        field("uid", "UID", Text(Zero)),
        field("outbound_port", "OutboundPort", Int(UINT16, Zero)),
        field("exclude_inbound_ports", "ExcludeInboundPorts", TextList),
        field("exclude_outbound_ports", "ExcludeOutboundPorts", PortList),
        field("exclude_outbound_cidrs", "ExcludeOutboundCIDRs", TextList),
        field("exclude_uids", "ExcludeUIDs", TextList),
        field("no_dns", "NoDNS", Bool(Zero)),
    ],
    hidden: &[],
};

pub(crate) static GATEWAY_SDS: Body = Body {
    kind: Kind::Plain,
    fields: &[field("cluster_name", "ClusterName", Text(Zero)), field("cert_resource", "CertResource", Text(Zero))],
    hidden: &[],
};

pub(crate) static INGRESS_SERVICE: Body = Body {
    kind: Kind::Plain,
    fields: &[
        field("name", "Name", Text(Zero)),
        field("hosts", "Hosts", TextList),
        field("tls", "TLS", One(&GATEWAY_TLS)),
        field("request_headers", "RequestHeaders", One(&HEADER_MODIFIERS)),
        field("response_headers", "ResponseHeaders", One(&HEADER_MODIFIERS)),
        field("max_connections", "MaxConnections", Int(UINT32, Null)),
        field("max_pending_requests", "MaxPendingRequests", Int(UINT32, Null)),
        field("max_concurrent_requests", "MaxConcurrentRequests", Int(UINT32, Null)),
    ],
    hidden: &[],
};

pub(crate) static EXPOSE_PATH: Body = Body {
    kind: Kind::Plain,
    fields: &[
        field("path", "Path", Text(Zero)),
        field("protocol", "Protocol", Text(Zero)),
        field("local_path_port", "LocalPathPort", Int(INT, Zero)),
        field("listener_port", "ListenerPort", Text(Zero)),
    ],
    hidden: &[],
};

pub(crate) static MESH_GATEWAY: Body =
    Body { kind: Kind::Plain, fields: &[field("mode", "Mode", Text(Zero))], hidden: &[] };

pub(crate) static HEADER_MODIFIERS: Body = Body {
    kind: Kind::Plain,
    fields: &[field("add", "Add", TextMap), field("set", "Set", TextMap), field("remove", "Remove", TextList)],
    hidden: &[],
};
