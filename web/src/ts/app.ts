import "htmx.org";

import { startConnection } from "./connection";
import { startFleet } from "./fleet";
import { startRealms } from "./realm";
import { startSignIn } from "./signin";
import { startThemeSwitch } from "./themeswitch";

startThemeSwitch();
startSignIn();
startRealms();
if (document.getElementById("signed-out")) {
  startConnection();
  startFleet();
}
