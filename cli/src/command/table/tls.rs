//! Commands that make and read an operator's certificates.

use super::PLAIN;
use crate::command::{Command, Reach, Runner, tls};
use crate::flags::{Flag, Kind, flag, list, switch, text};

const DAYS: &str = "How long it is good for.";
const DOMAIN: Flag = flag("domain", Kind::Text, "nomad", "DOMAIN", "Domain of the names in certificates.");

pub static COMMANDS: &[Command] = &[
    Command {
        path: "tls ca create",
        summary: "Makes an authority for certificates",
        about: "Writes <domain>-agent-ca.pem and <domain>-agent-ca-key.pem here; files that are there already are never \
            replaced. Whoever has the key can make certificates that every machine believes: keep it off the machines.",
        reach: Reach::Nobody,
        flags: &[
            flag("days", Kind::Uint, "1825", "DAYS", DAYS),
            DOMAIN,
            switch("name-constraint", "Certify names in the domain, in -additional-domain and localhost only."),
            list("additional-domain", "DOMAIN", "Another domain that may be certified, with -name-constraint."),
            text("common-name", "NAME", "Name of the authority."),
            text("country", "CODE", "Its country, two letters."),
            text("postal-code", "CODE", "Its postal code."),
            text("province", "NAME", "Its province."),
            text("locality", "NAME", "Its place."),
            text("street-address", "TEXT", "Its street address."),
            text("organization", "NAME", "Its organization."),
            text("organizational-unit", "NAME", "Its organizational unit."),
        ],
        runner: Runner::Client(|cx| Box::pin(async { tls::ca_create(cx) })),
        ..PLAIN
    },
    Command {
        path: "tls ca info",
        usage: "<CA file>",
        summary: "Shows what an authority's certificate says",
        reach: Reach::Nobody,
        flags: &[],
        args: (1, 1),
        runner: Runner::Client(|cx| Box::pin(async { tls::ca_info(cx) })),
        ..PLAIN
    },
    Command {
        path: "tls cert create",
        summary: "Makes a certificate of an authority",
        about: "For a server, a client or a person with the command line: one of -server, -client and -cli. Writes \
            <region>-server-<domain>.pem and its key <region>-server-<domain>-key.pem here, and so on; files that are \
            there already are never replaced.",
        reach: Reach::Nobody,
        flags: &[
            switch("server", "For a server."),
            switch("client", "For a client."),
            switch("cli", "For the command line."),
            flag("ca", Kind::Text, "", "FILE", "The authority's certificate. Default: <domain>-agent-ca.pem."),
            flag("key", Kind::Text, "", "FILE", "The authority's key. Default: <domain>-agent-ca-key.pem."),
            flag("days", Kind::Uint, "365", "DAYS", "How long it is good for; at most as long as the authority."),
            DOMAIN,
            text("region", "REGION", "Region in its name. Default: global. [$STEPPE_REGION, $NOMAD_REGION]"),
            list("additional-dnsname", "NAME", "Another name that it is good for. localhost always is."),
            list("additional-ipaddress", "IP", "Another address that it is good for. 127.0.0.1 always is."),
        ],
        runner: Runner::Client(|cx| Box::pin(async { tls::cert_create(cx) })),
        ..PLAIN
    },
    Command {
        path: "tls cert info",
        usage: "<certificate file>",
        summary: "Shows what a certificate says",
        reach: Reach::Nobody,
        flags: &[],
        args: (1, 1),
        runner: Runner::Client(|cx| Box::pin(async { tls::cert_info(cx) })),
        ..PLAIN
    },
];
