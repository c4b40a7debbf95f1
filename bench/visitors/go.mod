module blindgate/visitors

go 1.21
