//! The service mesh blocks of a service: both steps.

use super::{default, default_empty, task};
use crate::connect::{ConsulConnect, ConsulGateway};
use crate::time::Nanos;

/// The first step.
pub(super) fn client(connect: &mut ConsulConnect) {
    if let Some(sidecar) = &mut connect.sidecar_task {
        task::resources(sidecar.resources.get_or_insert_default());
        task::logs(sidecar.log_config.get_or_insert_default());
        default(&mut sidecar.kill_timeout, crate::access::KILL_TIMEOUT_DEFAULT);
        default(&mut sidecar.shutdown_delay, Nanos(0));
        sidecar.volume_mounts.iter_mut().for_each(task::volume_mount);
    }
    if let Some(proxy) = connect.sidecar_service.as_mut().and_then(|sidecar| sidecar.proxy.as_mut()) {
        if proxy.expose.is_none() {
            proxy.expose = proxy.expose_config.take();
        }
        if let Some(expose) = &mut proxy.expose
            && expose.paths.is_empty()
        {
            expose.paths = std::mem::take(&mut expose.path);
        }
    }
    connect.gateway.iter_mut().for_each(gateway);
}

fn gateway(gateway: &mut ConsulGateway) {
    if let Some(proxy) = &mut gateway.proxy {
        default(&mut proxy.connect_timeout, Nanos::from_secs(5));
    }
    for listener in gateway.ingress.iter_mut().flat_map(|ingress| &mut ingress.listeners) {
        default_empty(&mut listener.protocol, "tcp");
    }
}

/// The second step.
pub(super) fn server(connect: &mut ConsulConnect) {
    if let Some(sidecar) = &mut connect.sidecar_task {
        sidecar.resources.iter_mut().for_each(task::server_resources);
        if let Some(logs) = &mut sidecar.log_config {
            logs.enabled = None;
        }
    }
    if let Some(proxy) = connect.sidecar_service.as_mut().and_then(|sidecar| sidecar.proxy.as_mut()) {
        proxy.expose_config = None;
        if let Some(expose) = &mut proxy.expose {
            expose.path.clear();
        }
    }
    let proxies = connect.gateway.iter_mut().filter_map(|gateway| gateway.proxy.as_mut());
    for address in proxies.flat_map(|proxy| proxy.envoy_gateway_bind_addresses.values_mut()) {
        address.name.clear();
    }
}
