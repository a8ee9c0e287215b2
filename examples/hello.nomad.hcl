# Says hello every second, from one task on one node.
variable "greeting" {
  type    = string
  default = "hello"
}

job "hello" {
  datacenters = ["*"]

  group "greeter" {
    task "say" {
      driver = "raw_exec"

      config {
        command = "/bin/sh"
        args    = ["-c", "while true; do echo ${var.greeting} from $NOMAD_ALLOC_ID on ${node.unique.name}; sleep 1; done"]
      }

      resources {
        cpu    = 20
        memory = 20
      }
    }
  }
}
