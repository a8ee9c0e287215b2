# A web server on a port that the scheduler picks; `steppe alloc status` shows it. Change the text and run it
# again: the two instances are replaced one after the other.
job "web" {
  datacenters = ["*"]

  update {
    max_parallel     = 1
    health_check     = "task_states"
    min_healthy_time = "2s"
  }

  group "server" {
    count = 2

    network {
      port "http" {}
    }

    task "python" {
      driver = "raw_exec"

      config {
        command = "/bin/sh"
        args    = ["-c", "echo \"$TEXT\" > index.html && exec python3 -m http.server --bind 127.0.0.1 $NOMAD_PORT_http"]
      }

      env {
        TEXT = "version one of ${NOMAD_ALLOC_NAME}"
      }

      resources {
        cpu    = 50
        memory = 50
      }
    }
  }
}
