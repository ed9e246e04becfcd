// What the tests in modules of their own share.
module github.com/coredns-failover/failover/test/sandbox

go 1.26.0
