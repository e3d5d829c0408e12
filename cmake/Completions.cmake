# Completions of shells, which the program writes from its own tables, where the shells look for them by themselves.
# Debian's zsh reads those of packages from a folder of its own, and that of others only below /usr/local.
set(zsh_folder ${CMAKE_INSTALL_DATADIR}/zsh/site-functions)
if(EXISTS /etc/debian_version AND CMAKE_INSTALL_PREFIX STREQUAL "/usr")
  set(zsh_folder ${CMAKE_INSTALL_DATADIR}/zsh/vendor-completions)
endif()
set(MLXR_ZSH_COMPLETIONS ${zsh_folder} CACHE STRING "Folder of zsh's completions, below the prefix")

if(TARGET mlxr AND NOT CMAKE_CROSSCOMPILING)
  set(completion_folder ${CMAKE_BINARY_DIR}/completions)
  set(completion_files)
  foreach(shell bash zsh fish)
    set(file ${completion_folder}/${shell})
    add_custom_command(OUTPUT ${file}
                       COMMAND ${CMAKE_COMMAND} -E make_directory ${completion_folder}
                       COMMAND $<TARGET_FILE:mlxr> completion ${shell} > ${file}
                       DEPENDS mlxr
                       VERBATIM)
    list(APPEND completion_files ${file})
  endforeach()
  add_custom_target(completions ALL DEPENDS ${completion_files})
  install(FILES ${completion_folder}/bash DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions RENAME mlxr)
  install(FILES ${completion_folder}/zsh DESTINATION ${MLXR_ZSH_COMPLETIONS} RENAME _mlxr)
  install(FILES ${completion_folder}/fish DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d
          RENAME mlxr.fish)
endif()
