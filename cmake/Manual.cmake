# Manual pages, where scdoc is there to make them: the program writes their source from its own tables.
find_program(MLXR_SCDOC scdoc)
if(TARGET mlxr AND MLXR_SCDOC AND NOT CMAKE_CROSSCOMPILING)
  set(manual_folder ${CMAKE_BINARY_DIR}/man)
  add_custom_command(OUTPUT ${manual_folder}/.done
                     COMMAND ${CMAKE_COMMAND} -DMLXR=$<TARGET_FILE:mlxr> -DSCDOC=${MLXR_SCDOC} -DOUT=${manual_folder}
                             -P ${CMAKE_SOURCE_DIR}/cmake/MakeManual.cmake
                     COMMAND ${CMAKE_COMMAND} -E touch ${manual_folder}/.done
                     DEPENDS mlxr ${CMAKE_SOURCE_DIR}/cmake/MakeManual.cmake
                     VERBATIM)
  add_custom_target(manual ALL DEPENDS ${manual_folder}/.done)
  install(DIRECTORY ${manual_folder}/ DESTINATION ${CMAKE_INSTALL_MANDIR}/man1 FILES_MATCHING PATTERN "*.1")
endif()
