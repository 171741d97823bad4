module rayworkflow.dev/tools/pause

go 1.25
