# One machine that is server and node, for trying things beyond `steppe dev`. /etc/steppe.d/steppe.hcl
data_dir = "/var/lib/steppe"

server {
  enabled          = true
  bootstrap_expect = 1
}

client {
  enabled = true
}

plugin "raw_exec" {
  config {
    enabled = true
  }
}
