# Runs three times and is done.
job "count-primes" {
  datacenters = ["*"]
  type        = "batch"

  group "workers" {
    count = 3

    task "count" {
      driver = "raw_exec"

      config {
        command = "/bin/sh"
        args    = ["-c", "n=0; i=2; while [ $i -lt 500 ]; do j=2; while [ $((j * j)) -le $i ] && [ $((i % j)) -ne 0 ]; do j=$((j + 1)); done; [ $((j * j)) -gt $i ] && n=$((n + 1)); i=$((i + 1)); done; echo worker $NOMAD_ALLOC_INDEX found $n primes"]
      }

      resources {
        cpu    = 50
        memory = 20
      }
    }
  }
}
