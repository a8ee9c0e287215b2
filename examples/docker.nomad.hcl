# A web server in a container, from an image that is on the node already:
#   docker pull busybox:1.36        (or: docker import / docker load / load = "image.tar")
variable "image" {
  type    = string
  default = "busybox:1.36"
}

job "docker-web" {
  datacenters = ["*"]

  group "web" {
    network {
      port "http" {
        to = 8080
      }
    }

    task "httpd" {
      driver = "docker"

      config {
        image   = var.image
        command = "sh"
        args    = ["-c", "echo \"hello from $NOMAD_ALLOC_ID\" > /local/index.html && exec httpd -f -v -p 8080 -h /local"]
        ports   = ["http"]
        init    = true
      }

      resources {
        cpu    = 50
        memory = 32
      }
    }
  }
}
