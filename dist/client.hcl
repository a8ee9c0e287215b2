# A node that is no server. /etc/steppe.d/client.hcl
data_dir  = "/var/lib/steppe"
bind_addr = "{{ GetPrivateIP }}"

addresses {
  http = "127.0.0.1"
}

client {
  enabled = true
  servers = ["10.0.0.1", "10.0.0.2", "10.0.0.3"]

  # What `steppe node intro create` printed; needed once, and it may be a path to a file.
  intro_token = "/etc/steppe.d/intro-token"
}
