# Runs on every node, also on those that come later.
job "uptime" {
  datacenters = ["*"]
  type        = "system"

  group "watch" {
    task "uptime" {
      driver = "raw_exec"

      config {
        command = "/bin/sh"
        args    = ["-c", "while true; do cut -d' ' -f1 /proc/uptime; sleep 10; done"]
      }

      resources {
        cpu    = 10
        memory = 10
      }
    }
  }
}
