# An example of a job. `steppe job plan` shows what it would do, `steppe job run` runs it.
job "example" {
  # service runs on, batch ends, system runs once on every node.
  type = "service"

  group "web" {
    count = 1

    network {
      # A free port of the node, in the task's environment as NOMAD_PORT_http.
      port "http" {}
    }

    # What to do with a task that ends although it should not.
    restart {
      attempts = 2
      interval = "30m"
      delay    = "15s"
      mode     = "fail"
    }

    task "server" {
      # A plain process on the node.
      driver = "raw_exec"

      config {
        command = "/bin/sh"
        args    = ["-c", "echo listening on $NOMAD_PORT_http; exec sleep 1000000"]
      }

      # MHz and MiB that are set aside for the task.
      resources {
        cpu    = 100
        memory = 64
      }
    }
  }
}
