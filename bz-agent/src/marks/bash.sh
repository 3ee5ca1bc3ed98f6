# Read once, at the first prompt, after every start-up file; exports and changes nothing they made.
export -n PROMPT_COMMAND PS0 BZ_MARKS
unset BZ_MARKS
__bz_ran=
__bz_none=

# What stood in for this script has nothing more to do.
__bz_done=__bz_pass
__bz_pass() { return; }

# Before anything of the user's, which would hide the status.
__bz_first=__bz_on_return
__bz_on_return() {
  local last=$?
  if [[ -n $__bz_ran ]]; then builtin printf '\e]133;D;%s\a' "$last"; fi
  __bz_ran=
  return "$last"
}

# After everything of the user's, which may have made a new prompt.
__bz_last=__bz_on_prompt
__bz_on_prompt() {
  local last=$?
  __bz_seen=$HISTCMD
  if [[ ${PS1-} != *'133;B'* ]]; then PS1='\[\e]133;A\a\]'"${PS1-}"'\[\e]133;B\a\]'; fi
  if [[ ${PS0-} != *__bz_ran* ]] && shopt -q promptvars; then
    PS0='$(__bz_on_command "$HISTCMD")\e]133;C\a${__bz_none:$((__bz_ran=1,0)):0}'"${PS0#'\e]133;C\a'}"
  fi
  return "$last"
}

# The history knows the line as it was typed, unless it was told not to keep it: then its number
# stands still, and saying nothing is better than naming the line before.
__bz_on_command() {
  if ((${1:-0} <= ${__bz_seen:-0})); then return; fi
  local line
  line=$(HISTTIMEFORMAT='' builtin history 1)
  line=${line#*[0-9][* ] }
  line=${line:0:4096}
  line=${line//\\/\\\\}
  line=${line//;/\\x3b}
  line=${line//$'\n'/\\x0a}
  line=${line//[[:cntrl:]]/\\x3f}
  builtin printf '\e]633;E;%s\a' "$line"
}

# Names, so that a shell that inherits this text and not the functions finds nothing to run.
if [[ -n ${PROMPT_COMMAND[1]+set} ]]; then
  PROMPT_COMMAND=('${__bz_first-}' "${PROMPT_COMMAND[@]}" '${__bz_last-}')
else
  PROMPT_COMMAND='${__bz_first-}'$'\n'"$PROMPT_COMMAND"$'\n''${__bz_last-}'
fi
__bz_on_prompt
