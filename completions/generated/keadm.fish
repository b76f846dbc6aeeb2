complete --keep-order --exclusive --command keadm --arguments "(KEADM_COMPLETE=fish keadm -- (commandline --current-process --tokenize --cut-at-cursor) (commandline --current-token))"
