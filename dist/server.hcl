# One of three servers; the same file on each. /etc/steppe.d/server.hcl
data_dir  = "/var/lib/steppe"
bind_addr = "{{ GetPrivateIP }}"

# The public API asks nobody who they are yet: leave it on this machine, and reach it through a tunnel.
addresses {
  http = "127.0.0.1"
}

server {
  enabled          = true
  bootstrap_expect = 3

  # Put here what `steppe operator gossip keyring generate` prints, the same on each: this placeholder is refused.
  # Whoever has the key can be a server: keep it secret.
  encrypt = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="

  server_join {
    retry_join = ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
  }
}
