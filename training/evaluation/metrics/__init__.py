"""The metrics themselves: functions of arrays that read, render and download nothing."""
