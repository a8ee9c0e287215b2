//! `steppe tls`: an operator's certificates, as files.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use kit::certs::{self, AuthorityWish, CertsError, Facts, Holder, LeafWish, Subject};
use kit::pki::Pem;

use super::{Cx, Failure};
use crate::env;
use crate::format::pairs;

/// # Errors
/// A file is there already, or a flag's value cannot be used.
pub fn ca_create(cx: &mut Cx) -> Result<u8, Failure> {
    let domain = domain(cx)?;
    let more = cx.flags.list("additional-domain").to_vec();
    let constrained = cx.flags.is("name-constraint");
    if !more.is_empty() && !constrained {
        return Err(Failure::new("Error: -additional-domain needs -name-constraint"));
    }
    let word = |name: &str| cx.flags.text(name).to_owned();
    let common_name = match word("common-name") {
        named if !named.is_empty() => named,
        _ => format!("Steppe Agent CA {}", uuid::Uuid::new_v4().as_u128()),
    };
    let subject = Subject {
        common_name,
        country: word("country"),
        postal_code: word("postal-code"),
        province: word("province"),
        locality: word("locality"),
        street_address: word("street-address"),
        organization: word("organization"),
        organizational_unit: word("organizational-unit"),
    };
    let domains = if constrained {
        [domain.clone(), "localhost".to_owned()].into_iter().chain(more).collect()
    } else {
        Vec::new()
    };
    let pem = certs::authority(&AuthorityWish { subject, days: days(cx), domains })
        .map_err(|e| failed("Error creating CA", &e))?;
    let (cert, key) = ca_files(&domain);
    save(&pem, &cert, &key)?;
    cx.ui.line(format!("==> CA certificate saved to: {}", cert.display()));
    cx.ui.line(format!("==> CA certificate key saved to: {}", key.display()));
    Ok(0)
}

/// # Errors
/// The file holds no authority's certificate.
pub fn ca_info(cx: &mut Cx) -> Result<u8, Failure> {
    let facts = facts(Path::new(cx.arg(0)))?;
    if !facts.is_authority {
        return Err(failed("Error reading CA", &CertsError::NotAnAuthority));
    }
    let text = pairs(&[
        ("Serial Number", facts.serial.clone()),
        ("Issuer CN", facts.issuer.clone()),
        ("Common Name", facts.common_name.clone()),
        ("Expiry Date", expiry(cx, &facts)),
        ("Permitted DNS Domains", list(&facts.permitted_domains)),
    ]);
    cx.ui.line(text);
    Ok(0)
}

/// # Errors
/// A file is there already, the authority cannot be used, or a flag's value cannot.
pub fn cert_create(cx: &mut Cx) -> Result<u8, Failure> {
    let domain = domain(cx)?;
    let holders = [("server", Holder::Server), ("client", Holder::Client), ("cli", Holder::Cli)];
    let wanted: Vec<Holder> = holders.into_iter().filter(|(flag, _)| cx.flags.is(flag)).map(|(_, h)| h).collect();
    let &[holder] = wanted.as_slice() else {
        return Err(Failure::new("Error: say one of -server, -client and -cli"));
    };
    let region = cx.flags.some("region").or_else(|| cx.env.get(env::REGION)).unwrap_or("global").to_owned();
    plain(&region, "-region")?;
    let mut addresses = Vec::new();
    for text in cx.flags.list("additional-ipaddress") {
        let ip: IpAddr = text.parse().map_err(|_| Failure::new(format!("Error: `{text}` is no IP address")))?;
        addresses.push(ip);
    }
    let wish = LeafWish {
        holder,
        domain: domain.clone(),
        days: days(cx),
        dns_names: cx.flags.list("additional-dnsname").to_vec(),
        addresses,
        region: region.clone(),
    };
    let (ca, ca_key) = ca_files(&domain);
    let named = |flag: &str, usual: PathBuf| cx.flags.some(flag).map_or(usual, PathBuf::from);
    let (ca, ca_key) = (named("ca", ca), named("key", ca_key));
    let read = |path: &Path| certs::read(path).map_err(|e| failed("Error reading the CA", &e));
    let pem = certs::certificate(&read(&ca)?, &read(&ca_key)?, &wish)
        .map_err(|e| failed("Error creating certificate", &e))?;
    let stem = format!("{region}-{}-{domain}", holder.as_str());
    let (cert, key) = (PathBuf::from(format!("{stem}.pem")), PathBuf::from(format!("{stem}-key.pem")));
    save(&pem, &cert, &key)?;
    if holder == Holder::Server {
        cx.ui.warn(
            "==> WARNING: a server's certificate stands for the cluster. Keep its key on servers only, and as safe as \
             an authority's.",
        );
    }
    cx.ui.line(format!("==> Using CA file {} and CA key {}", ca.display(), ca_key.display()));
    let what = match holder {
        Holder::Server => "Server",
        Holder::Client => "Client",
        Holder::Cli => "Cli",
    };
    cx.ui.line(format!("==> {what} Certificate saved to {}", cert.display()));
    cx.ui.line(format!("==> {what} Certificate key saved to {}", key.display()));
    Ok(0)
}

/// # Errors
/// The file holds no certificate.
pub fn cert_info(cx: &mut Cx) -> Result<u8, Failure> {
    let facts = facts(Path::new(cx.arg(0)))?;
    let addresses: Vec<String> = facts.addresses.iter().map(ToString::to_string).collect();
    let text = pairs(&[
        ("Serial Number", facts.serial.clone()),
        ("Issuer CN", facts.issuer.clone()),
        ("Common Name", facts.common_name.clone()),
        ("Expiry Date", expiry(cx, &facts)),
        ("DNS Names", list(&facts.dns_names)),
        ("IP Addresses", list(&addresses)),
    ]);
    cx.ui.line(text);
    Ok(0)
}

fn ca_files(domain: &str) -> (PathBuf, PathBuf) {
    (PathBuf::from(format!("{domain}-agent-ca.pem")), PathBuf::from(format!("{domain}-agent-ca-key.pem")))
}

/// Both files or none: the key first, so that there is no certificate without its key.
fn save(pem: &Pem, cert: &Path, key: &Path) -> Result<(), Failure> {
    let fail = |error: CertsError| failed("Error", &error);
    if cert.exists() {
        return Err(fail(CertsError::Exists(cert.to_owned())));
    }
    certs::save(key, &pem.key, true).map_err(fail)?;
    certs::save(cert, &pem.cert, false).map_err(|error| {
        // It is of no use, and would be in the way of another try.
        let _ = std::fs::remove_file(key);
        fail(error)
    })
}

fn facts(path: &Path) -> Result<Facts, Failure> {
    certs::read(path).and_then(|pem| Facts::read(&pem)).map_err(|e| failed("Error reading certificate", &e))
}

/// They become names of files.
fn plain(text: &str, flag: &str) -> Result<(), Failure> {
    let good = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b));
    if good && !text.starts_with('.') {
        Ok(())
    } else {
        Err(Failure::new(format!("Error: {flag}=`{text}` is no name")))
    }
}

fn domain(cx: &Cx) -> Result<String, Failure> {
    let domain = cx.flags.text("domain").to_owned();
    plain(&domain, "-domain")?;
    Ok(domain)
}

fn days(cx: &Cx) -> u32 {
    // What does not fit is refused where it is looked at.
    u32::try_from(cx.flags.uint("days")).unwrap_or(0)
}

fn expiry(cx: &Cx, facts: &Facts) -> String {
    let since = facts.not_after.duration_since(UNIX_EPOCH).unwrap_or_default();
    cx.stamp(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}

fn list(all: &[String]) -> String {
    if all.is_empty() { "<none>".to_owned() } else { all.join(", ") }
}

fn failed(what: &str, error: &CertsError) -> Failure {
    let mut text = format!("{what}: {error}");
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    Failure::new(text)
}
