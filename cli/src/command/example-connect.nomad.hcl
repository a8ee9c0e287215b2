# An example of services that reach each other through the service mesh. `steppe job plan` shows what it would
# do. The mesh is Consul's: nodes without Consul and its network plugins cannot run it.
job "countdash" {
  type = "service"

  # The service that is asked.
  group "api" {
    # Proxies need a network of the group's own.
    network {
      mode = "bridge"
    }

    # Time for requests under way when an allocation stops.
    shutdown_delay = "5s"

    service {
      name = "count-api"
      port = "9001"

      # Its proxy is brought along: the task connect-proxy-count-api.
      connect {
        sidecar_service {}
      }
    }

    task "web" {
      driver = "docker"

      config {
        image = "hashicorpdev/counter-api:v3"
      }
    }
  }

  # The service that asks.
  group "dashboard" {
    network {
      mode = "bridge"

      # Reached from outside on a port of the node.
      port "http" {
        static = 9002
        to     = 9002
      }
    }

    shutdown_delay = "5s"

    service {
      name = "count-dashboard"
      port = "http"

      connect {
        sidecar_service {
          proxy {
            # count-api answers here on port 8080 of the group's own loopback.
            upstreams {
              destination_name = "count-api"
              local_bind_port  = 8080
            }
          }
        }
      }
    }

    task "dashboard" {
      driver = "docker"

      env {
        COUNTING_SERVICE_URL = "http://${NOMAD_UPSTREAM_ADDR_count_api}"
      }

      config {
        image = "hashicorpdev/counter-dashboard:v3"
      }
    }
  }
}
