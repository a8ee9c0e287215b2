module steppe.test/generated

go 1.23

require steppe.local/steppe/client v0.0.0

replace steppe.local/steppe/client => ./made
