// A varpd of before the stand-in had its name starts it under this one, when it restarts into this version.
import './handover/stand-in-process.js';
